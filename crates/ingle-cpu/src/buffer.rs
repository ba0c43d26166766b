//! Memory for weights: aligned to cache lines, zeroed by the system when first touched, on huge pages where it helps.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// Size and alignment of a huge page.
#[cfg(unix)]
const HUGE_PAGE: usize = 2 << 20;

/// The system has not enough memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "no memory for {bytes} bytes of weights; close other programs or choose a smaller model or quantisation"
)]
pub struct OutOfMemory {
    /// What was asked for.
    pub bytes: usize,
}

/// Bytes that start zeroed and at a multiple of 64.
///
/// Pages come from the system when they are first written, so whichever threads fill a buffer share that work too.
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
    mapping: Mapping,
}

// SAFETY: a buffer owns its memory and hands it out by the usual rules of borrowing.
unsafe impl Send for Buffer {}
// SAFETY: as above; nothing changes through a shared reference.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer of `len` zeroed bytes.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the system refuses.
    pub fn zeroed(len: usize) -> Result<Buffer, OutOfMemory> {
        let (start, mapping) = Mapping::new(len).ok_or(OutOfMemory { bytes: len })?;
        Ok(Buffer { start, len, mapping })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start` begins `len` initialised bytes that this buffer owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes the borrow the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.mapping.free();
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish()
    }
}

/// What was asked of the system, to give back.
#[cfg(unix)]
struct Mapping {
    base: *mut libc::c_void,
    len: usize,
}

#[cfg(unix)]
impl Mapping {
    /// At least `len` bytes, and what to free; large ones start on a huge page.
    fn new(len: usize) -> Option<(NonNull<u8>, Mapping)> {
        let huge = len >= 2 * HUGE_PAGE;
        let total = len.max(1).checked_add(if huge { HUGE_PAGE } else { 0 })?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
        // SAFETY: a new private anonymous mapping touches nothing that exists.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), total, access, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        let mapping = Mapping { base, len: total };
        let skip = if huge { base.cast::<u8>().align_offset(HUGE_PAGE) } else { 0 };
        let start = base.cast::<u8>().wrapping_add(skip);
        #[cfg(target_os = "linux")]
        if huge {
            // SAFETY: the range lies inside the mapping just made. It is advice: failure changes nothing.
            unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
        }
        Some((NonNull::new(start)?, mapping))
    }

    fn free(&mut self) {
        // SAFETY: exactly the mapping made in `new`, and its only owner is going away.
        unsafe { libc::munmap(self.base, self.len) };
    }
}

/// What was asked of the allocator, to give back.
#[cfg(not(unix))]
struct Mapping {
    base: NonNull<u8>,
    layout: std::alloc::Layout,
}

#[cfg(not(unix))]
impl Mapping {
    fn new(len: usize) -> Option<(NonNull<u8>, Mapping)> {
        let layout = std::alloc::Layout::from_size_align(len.max(1), 64).ok()?;
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        Some((base, Mapping { base, layout }))
    }

    fn free(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and its only owner is going away.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_writable_to_the_end() {
        for len in [0, 1, 63, 4096, 4 << 20, (8 << 20) + 5] {
            let mut buffer = Buffer::zeroed(len).unwrap();
            assert_eq!(buffer.bytes().len(), len);
            assert_eq!(buffer.bytes().as_ptr().align_offset(64), 0);
            assert!(buffer.bytes().iter().all(|&byte| byte == 0));
            buffer.bytes_mut().fill(7);
            assert!(buffer.bytes().iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(Buffer::zeroed(usize::MAX).is_err());
        assert!(Buffer::zeroed(1 << 60).is_err());
    }
}
