"""A local page for what runs left in a workspace: only for looking, only on this machine."""
