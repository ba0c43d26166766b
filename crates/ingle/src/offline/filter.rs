//! System calls that are refused, with "operation not permitted".

use libc::{
    AF_UNIX, SYS_connect, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_pidfd_getfd,
    SYS_process_vm_writev, SYS_ptrace, SYS_socket,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// Calls that open connections, or act around the filter: through a ring that the kernel works off, through another
/// process's memory or one of its sockets.
const REFUSED: [i64; 7] = [
    SYS_connect,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_ptrace,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
];

/// The same calls of programs with 32-bit pointers on x86-64, which some kernels take from any program.
#[cfg(target_arch = "x86_64")]
const X32: [i64; 9] = {
    const BIT: i64 = 0x4000_0000;
    [
        BIT | SYS_socket,
        BIT | SYS_connect,
        BIT | SYS_io_uring_setup,
        BIT | SYS_io_uring_enter,
        BIT | SYS_io_uring_register,
        BIT | SYS_pidfd_getfd,
        // these have numbers of their own
        BIT | 521,
        BIT | 540,
        BIT | SYS_ptrace,
    ]
};
#[cfg(not(target_arch = "x86_64"))]
const X32: [i64; 0] = [];

/// Filters the system calls of all threads from now on, and of programs that they start.
///
/// # Errors
/// What the kernel says.
pub(super) fn install() -> Result<(), String> {
    let program = program().map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    // no family of sockets but the one that stays on the machine; a rule without conditions always holds
    let elsewhere = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, AF_UNIX as u64)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.into_iter().chain(X32).map(|call| (call, Vec::new())).collect();
    rules.insert(SYS_socket, vec![SeccompRule::new(vec![elsewhere])?]);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    // another architecture's calls, whose numbers mean other things, end the process
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_program_for_this_processor() {
        let program = program().unwrap();
        assert!(program.len() > REFUSED.len() + X32.len(), "{} steps", program.len());
    }
}
