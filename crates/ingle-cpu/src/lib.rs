//! Networks on the processor: the scalar [`Reference`] executor that defines what is right, and the [`Production`]
//! executor over packed weights, a kernel table chosen once for the machine, and one pool of threads.

mod attention;
pub mod buffer;
pub mod cpu;
mod delta;
pub mod kernels;
pub mod limits;
pub mod matrix;
pub mod pool;
pub mod production;
pub mod reference;
pub mod routing;
mod saved;
mod sequences;

pub use cpu::Cpu;
pub use limits::Limits;
pub use production::Production;
pub use reference::Reference;
