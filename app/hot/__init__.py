"""What the hot path knows: requests taken apart, what was checked of them, and answers known by their letters."""
