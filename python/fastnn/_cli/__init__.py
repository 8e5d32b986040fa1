"""The commands of `python -m fastnn`, a file each, and what they share."""
