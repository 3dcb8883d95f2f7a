"""The network: VAN-B0 to B6 as Jittor modules."""

from __future__ import annotations

from .blocks import CFF as CFF
from .blocks import LKA as LKA
from .blocks import Attention as Attention
from .blocks import Block as Block
from .blocks import PatchEmbed as PatchEmbed
from .factory import build as build
from .factory import create_model as create_model
from .factory import load_weights as load_weights
from .van import VAN as VAN
from .van import VANFeatures as VANFeatures
