"""What one frame leaves to the next: masks carried by flow, colours, cuts, looking ahead."""
