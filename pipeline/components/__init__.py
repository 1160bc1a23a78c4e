"""Our own TFX components: thin adapters that unwrap artifacts, call a plain function and wrap its result."""
