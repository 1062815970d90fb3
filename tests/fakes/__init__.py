"""Stand-ins for what the connector talks to: real servers on loopback and clocks that move when told."""
