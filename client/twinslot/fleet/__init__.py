"""An update server's client: takes its orders, has the service carry them out, reports what the audit has."""
