//! The atomics of the protocol: the standard library's, or in the model of it (`--cfg loom`) those of the model checker.

#[cfg(all(test, loom))]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU32, Ordering, fence},
};
#[cfg(not(all(test, loom)))]
pub(super) use {
    std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence},
    unchecked::UnsafeCell,
};

#[cfg(not(all(test, loom)))]
mod unchecked {
    /// The standard library's cell by the model checker's interface, which sees every access.
    #[derive(Debug)]
    pub(in crate::pool) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(in crate::pool) fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(in crate::pool) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub(in crate::pool) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}
