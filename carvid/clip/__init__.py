"""The frozen CLIPs: a backbone that gives CaR what it needs, and where weights come from."""

from carvid.clip.backbone import ClipBackbone
from carvid.clip.gradient_cam import PatchFeatures
from carvid.clip.preprocessing import to_pixels
from carvid.clip.weights import load_backbone

__all__ = ["ClipBackbone", "PatchFeatures", "load_backbone", "to_pixels"]
