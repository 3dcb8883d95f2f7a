#!/bin/sh
# Calls nvcc with Jittor's options as this CUDA and this GPU want them. A script and no link: Jittor follows links,
# and would look for headers and libraries where the real one lies.
left=$#
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    case $word in
@RULES@
    esac
    set -- "$@" "$word"
    left=$((left - 1))
done
exec @NVCC@ "$@"
