"""Who takes part, driver by driver."""
