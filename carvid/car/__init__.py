"""CLIP as RNN: the recurrent unit f → v → g → σ, and what sharpens its masks."""
