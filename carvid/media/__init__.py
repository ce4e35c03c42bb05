"""Frames in and videos out: one interface over files, folders, images, cameras and pipes."""
