"""Names that parameters may take."""

ANY_VIEW_VARIANTS = ("da3-nano", "da3-small", "da3-base", "da3-large", "da3-giant")
SINGLE_VIEW_VARIANTS = ("da3metric-large", "da3mono-large")
NESTED_VARIANTS = ("da3nested-giant-large",)
VARIANTS = (*ANY_VIEW_VARIANTS, *SINGLE_VIEW_VARIANTS, *NESTED_VARIANTS)
METRIC_VARIANT = "da3metric-large"
BUNDLED_VARIANT = "da3-nano"  # whose own weights are in this package
REFERENCE_VIEWS = ("saddle_balanced", "saddle_sim_range", "first", "middle")
PROCESS_RES_METHODS = ("upper_bound_resize", "upper_bound_crop", "lower_bound_resize", "lower_bound_crop")
RANDOM_CHECKPOINT = "random"
