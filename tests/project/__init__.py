"""The project itself: its rules, its wheel, its files for others' tools."""
