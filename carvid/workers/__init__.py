"""Who does many tasks: processes of this machine, or actors of Ray on a cluster."""
