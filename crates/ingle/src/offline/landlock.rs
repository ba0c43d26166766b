//! Landlock refuses TCP connections, a second time.

use landlock::{
    ABI, Access, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, RulesetStatus,
};

/// No TCP connection for this thread and those it starts from now on; binding a listener stays allowed.
///
/// # Errors
/// Why it cannot be had.
pub(super) fn restrict() -> Result<(), String> {
    let all = AccessNet::from_all(ABI::V4) & AccessNet::ConnectTcp;
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(all);
    let restricted = ruleset.and_then(|ruleset| ruleset.create()?.restrict_self());
    match restricted {
        Ok(status) if status.ruleset == RulesetStatus::FullyEnforced => Ok(()),
        Ok(_) => Err("the kernel enforces a part of it only".into()),
        Err(RulesetError::HandleAccesses(_)) => Err("the kernel is older than 6.7".into()),
        Err(error) => Err(error.to_string()),
    }
}
