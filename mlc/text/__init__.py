"""What any text tells of itself: its language, what it repeats, its code points."""
