"""The words of every task: which number of its arguments means what.

X, OUT and the like are addresses of memory; ROW, COLUMN and STEP are strides in elements; LIMIT, SHIFT and sizes are
numbers. What an address points to is said where the words are filled (refcodec/arith/numba_*.py,
refcodec/arith/jit/rans.py).
"""

(
    C_X,
    C_ADD,
    C_OUT,
    C_W,
    C_BIAS,
    C_SHIFT,
    C_ADD_SHIFT,
    C_TABLE,
    C_LAST,
    C_LIMIT,
    C_WIDE,
    C_OUTPUTS,
    C_HALF_RUN,
    C_RUNS,
    C_N_RUNS,
    C_SEGMENTS,
    C_N_SEGMENTS,
    C_WIDTH,
    C_X_ROW,
    C_X_STEP,
    C_PARITY,
    C_X_COLUMN,
    C_OUT_ROW,
    C_OUT_STEP,
    C_ADD_ROW,
    C_ADD_STEP,
    C_ADD_KIND,
    C_SKIP_UP,
    C_BRANCH_UP,
    C_HALF,
    C_DOWN,
    C_TOP,
    C_WORDS,
) = range(33)
"""A convolution."""

(
    D_X,
    D_OUT,
    D_W,
    D_BIAS,
    D_SHIFT,
    D_TABLE,
    D_LAST,
    D_LIMIT,
    D_CHANNELS,
    D_STRIDE,
    D_WIDTH,
    D_X_ROW,
    D_X_COLUMN,
    D_OUT_ROW,
    D_OUT_COLUMN,
    D_WORDS,
) = range(16)
"""A depthwise convolution."""

(
    G_X,
    G_OUT,
    G_GAMMA,
    G_BETA,
    G_CHANNELS,
    G_SHIFT,
    G_LIMIT,
    G_INVERSE,
    G_WIDTH,
    G_X_ROW,
    G_X_COLUMN,
    G_OUT_ROW,
    G_OUT_COLUMN,
    G_WORDS,
) = range(14)
"""GDN or IGDN."""

(N_X, N_OUT, N_EPSILON, N_GAIN, N_LIMIT, N_CHANNELS, N_WIDTH, N_X_ROW, N_X_COLUMN, N_OUT_ROW, N_OUT_COLUMN, N_WORDS) = (
    range(12)
)
"""Layer normalisation."""

(
    L_QKV,
    L_OUT,
    L_BIAS,
    L_PLACE,
    L_TABLE,
    L_SHIFT,
    L_LIMIT,
    L_HEADS,
    L_CHANNELS,
    L_HEIGHT,
    L_WIDTH,
    L_ROW,
    L_COLUMN,
    L_OUT_ROW,
    L_OUT_COLUMN,
    L_WORDS,
) = range(16)
"""Local attention."""

E_NEAR, E_TABLE, E_OUT = range(3)
"""Exponentials alone."""

(
    K_KEYS,
    K_VALUES,
    K_TOP,
    K_TABLE,
    K_SUMS,
    K_TOTALS,
    K_SHIFT,
    K_WIDTH,
    K_PARITY,
    K_HEIGHT,
    K_COLUMNS,
    K_ROW,
    K_COLUMN,
    K_V_ROW,
    K_V_COLUMN,
    K_BLOCK,
    K_WORDS,
) = range(17)
"""Linear attention's sums over keys."""

(
    Q_QUERIES,
    Q_OUT,
    Q_CONTEXT,
    Q_TABLE,
    Q_SHIFT,
    Q_LIMIT,
    Q_HEADS,
    Q_WIDTH,
    Q_PARITY,
    Q_COLUMNS,
    Q_ROW,
    Q_COLUMN,
    Q_OUT_ROW,
    Q_OUT_COLUMN,
    Q_WORDS,
) = range(15)
"""Linear attention's queries."""

(S_PARAMETERS, S_ROW, S_COLUMN, S_LEVEL_OF, S_TOP, S_LIMIT, S_LEVELS, S_MEANS, S_WIDTH, S_CHANNELS) = range(10)
"""Scales and means of entropy parameters."""

(
    P_SYMBOLS,
    P_MEANS,
    P_UP,
    P_PARITY,
    P_LIMIT,
    P_SHIFT,
    P_TOP,
    P_WIDTH,
    P_CHANNELS,
    P_Y_HAT,
    P_ROW,
    P_COLUMN,
    P_CURRENT,
    P_CURRENT_ROW,
    P_CURRENT_COLUMN,
) = range(15)
"""Symbols and means into one half of y_hat and its context copy."""

(
    R_RESIDUAL,
    R_RESIDUAL_ROW,
    R_RESIDUAL_COLUMN,
    R_TABLE,
    R_LAST,
    R_PARITY,
    R_LIMIT,
    R_SHIFT,
    R_TOP,
    R_WIDTH,
    R_CHANNELS,
    R_Y_HAT,
    R_ROW,
    R_COLUMN,
    R_CURRENT,
    R_CURRENT_ROW,
    R_CURRENT_COLUMN,
) = range(17)
"""A latent residual into one half of y_hat and its context copy."""

H_SOURCE, H_ROW, H_COLUMN, H_PARITY, H_OUT, H_OUT_ROW, H_OUT_COLUMN, H_WIDTH, H_CHANNELS = range(9)
"""One half of the checkerboard."""

X_STATE, X_POSITION, X_AT, X_STATUS = range(4)
"""The coder's state, which its kernels read and write: state, words read or written, symbols done, outcome."""

T_CUM, T_FREQ, T_COUNT, T_WORDS, T_STATE = range(5)
"""Symbols to encode."""

(U_WORDS, U_WORD_COUNT, U_INDEX, U_COUNT, U_CDF, U_START, U_FIRST, U_LOOKUP, U_ENTRIES, U_OUT, U_LIMIT, U_STATE) = (
    range(12)
)
"""Symbols to decode."""
