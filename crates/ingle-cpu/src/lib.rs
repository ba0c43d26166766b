//! Running a model on the processor: kernels, thread pool and executor.

pub mod buffer;
pub mod cpu;
pub mod kernels;
pub mod matrix;
pub mod pool;

pub use cpu::Cpu;
