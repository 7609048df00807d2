"""Control of a running service: its signals, the state that it shows, and the command `ctl`."""
