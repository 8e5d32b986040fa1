"""Bad input to the activations of ops beyond what bad_input.py asks of every function: kinds and alphas."""

from bad_input import array, t, v

ROWS = [
    v("activation", "unknown kind", r"'kind'.*'relu'.*'rellu'", kind="rellu"),
    t("activation", "no kind", r"'kind'", kind=None),
    v("activation", "alpha of relu", r"'alpha'.*'leaky_relu' and 'elu'.*None", alpha=0.1),
    v("activation", "alpha of gelu", r"'alpha'.*'elu'", kind="gelu", alpha=1.0),
    t("activation", "alpha is a word", r"'alpha'.*str", kind="elu", alpha="0.1"),
    t("activation_backward", "alpha is a list", r"'alpha'.*list", kind="elu", alpha=[1.0]),
    v("activation_backward", "alpha of selu", r"'alpha'.*'elu'", kind="selu", alpha=1.0),
    v("activation", "a kind in capitals", r"'kind'.*'gelu_tanh' or 'silu'.*'GELU'", kind="GELU"),
    v("activation", "out of another shape", r"'out'.*shape", x=array(4, 6)),
    v("activation_backward", "unknown kind", r"'kind'.*'relu'", kind=""),
]
