//! What has been freed goes back to the kernel instead of lying about in the heap of a process of which 48 run beside each other
//! (`man 3 malloc_trim`). With another C library than glibc this does nothing.
#![allow(unsafe_code)]

/// Gives the pages of which nothing is used back to the kernel: some microseconds a page, so for moments when much has been freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer; the allocator gives up pages that hold no allocation, under its own lock.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}
