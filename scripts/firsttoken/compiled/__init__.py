"""`compiled_graph`: whole steps compiled and captured, fused weights, Triton kernels where Inductor's are slower."""
