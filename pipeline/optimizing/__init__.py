"""Making the forms in which a model ships: variants, their making, their measurement and the verdict on each."""
