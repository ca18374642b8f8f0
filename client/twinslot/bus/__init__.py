"""The D-Bus surface (only importer of dbus_next)."""
