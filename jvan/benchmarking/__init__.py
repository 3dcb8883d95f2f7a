"""jvan against the engines that a user would pick instead, each in its own process."""
