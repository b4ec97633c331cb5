"""What we do: use cases over ports; no clock, process, socket or vendor package in here."""
