"""The network: VAN-B0 to B6 as Jittor modules."""

from __future__ import annotations

from .factory import build as build
from .factory import create_model as create_model
from .factory import load_weights as load_weights
from .van import CFF as CFF
from .van import LKA as LKA
from .van import VAN as VAN
from .van import Attention as Attention
from .van import Block as Block
from .van import PatchEmbed as PatchEmbed
from .van import VANFeatures as VANFeatures
