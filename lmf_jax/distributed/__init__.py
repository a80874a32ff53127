"""Devices and processes: sharding, gathering, initialization, preemption, watchdog."""
