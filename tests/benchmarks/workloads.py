"""What is compared with what: the table's lines, and what is timed at growing length."""

from tests.benchmarks.report import Ladder, Workload

EAGER = (
    Workload("quickstart", "quickstart, forward + backward", "ours", "hips", 0.12),
    Workload("quickstart", "quickstart, forward + backward", "ours", "pytorch", 0.12),
    Workload("matyas", "Matyas, both gradients", "ours", "hips", 0.1),
    Workload("mlp", "MLP 64-128-10, batch 64, one SGD step", "ours", "hips", 0.5),
    Workload("elementwise", "sum(tanh(x)*exp(-x*x) + sin(x)), 1,000,000 elements", "ours", "hips"),
    Workload("chain", "100,000 scalar operations, collector on", "ours", "hips"),
    Workload("chain", "100,000 scalar operations, collector off", "ours", "hips", collector=False),
)

COMPILED = (
    Workload("quickstart", "quickstart, value and gradient", "compiled", "xla", 0.05),
    Workload("descent_by_steps", "Rosenbrock descent, 10,000 steps in a Python loop", "compiled", "pytorch", 0.02),
    Workload("descent_by_steps", "the same", "compiled", "xla", 0.08),
    Workload("descent_by_steps", "the same, beside value and gradient by hand", "compiled", "by_hand", 1.5),
    Workload("descent", "Rosenbrock descent, 10,000 steps in one call", "compiled", "by_hand", 1.25),
    Workload("descent", "the same, beside lax.fori_loop", "compiled", "xla"),
    Workload("mlp_small", "MLP 64-128-10, batch 32, one SGD step", "compiled", "xla", 0.55),
    Workload("mlp_small", "the same", "compiled", "by_hand", 1.1),
    Workload("lstm_cells", "LSTM, one SGD step, beside a loop over nn.LSTMCell", "compiled", "pytorch", 0.9),
    Workload("lstm_layer", "the same, beside nn.LSTM", "compiled", "pytorch", 1.0),
    Workload("waves", "sum(sin(exp(tanh(x)))), 1,000,000 elements, 1 thread", "compiled", "xla", 0.5, threads=1),
    Workload("waves", "the same, 2 threads", "compiled", "xla", 0.5, threads=2),
    Workload("matmul", "sum(square(a @ b)), 512 x 512, both gradients", "compiled", "by_hand", 1.05),
    Workload("rosenbrock_compiled", "Rosenbrock-100 Hessian", "compiled", "xla", 0.8),
)

MATYAS_ROWS = "batched Matyas, value and both gradients of 100,000 rows: prepare + run"
PROGRAMS = (
    Workload("matyas_rows", MATYAS_ROWS, "programs", "by_hand", 1.3),
    Workload("matyas_rows_prepared", "the same, run alone", "programs", "by_hand", 1.3),
    Workload("rosenbrock", "Rosenbrock-100 Hessian: prepare + run", "programs", "xla"),
    Workload("rosenbrock_prepared", "the same, run alone, with value and gradient too", "programs", "xla", 0.8),
    Workload("rosenbrock_whole_prepared", "value, gradient and Hessian on both sides: run alone", "programs", "xla"),
    Workload("sine", "sin to order 6: prepare + run", "programs", "hips"),
    Workload("sine_prepared", "the same, run alone", "programs", "hips"),
    Workload("sine", "sin to order 6: prepare + run", "programs", "xla"),
    Workload("sine_prepared", "the same, run alone", "programs", "xla"),
    Workload("product", "Rosenbrock hvp, 1,000,000 dimensions: prepare + run", "programs", "xla"),
    Workload("product_prepared", "the same, run alone", "programs", "xla"),
)

#: The tables of ratios by title.
WORKLOADS = {"Eager, on a tape": EAGER, "Compiled functions": COMPILED, "Programs": PROGRAMS}

#: What an operation may cost more in the longest than in the shortest, and still count as linear.
LINEAR = 1.5
TAPE_PHASES = ("forward", "backward", "freed")
GRAPH_PHASES = ("trace and simplify", "gradient", "plan")
GRAPH_LENGTHS = (100, 1_000, 10_000)
LADDERS = (
    Ladder(
        "ours",
        "tape_growth",
        "a chain of scalar operations on Pullback's tape",
        TAPE_PHASES,
        (1_000, 10_000, 100_000, 1_000_000),
        LINEAR,
    ),
    Ladder("programs", "chain_growth", "a program that is one chain", GRAPH_PHASES, GRAPH_LENGTHS, LINEAR),
    Ladder("programs", "sum_growth", "a program that is one wide sum", GRAPH_PHASES, GRAPH_LENGTHS, LINEAR),
)
