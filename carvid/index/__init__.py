"""A clip's index: what does not depend on what is asked, read once, to answer from at any time."""
