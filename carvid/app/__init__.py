"""The local web app: a clip, what to find in it, masks to look at, correct and take along."""
