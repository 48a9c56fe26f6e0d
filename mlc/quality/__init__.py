"""Translation quality: signals measured once, decisions made from them, and the count of what was dropped."""
