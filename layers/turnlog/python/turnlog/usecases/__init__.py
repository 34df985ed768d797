"""Turnlog's use cases: functions of plain values and ports, the same through every entry point."""
