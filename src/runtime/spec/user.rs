//! Who a container's first process is. Pure: the rootfs's files come in as text.

use super::super::{RuntimeError, SecurityConfig};

/// The rootfs's `/etc/passwd` and `/etc/group`; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct UserFiles {
    pub(in super::super) passwd: String,
    pub(in super::super) group: String,
}

/// The identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct ProcessUser {
    pub(in super::super) uid: u32,
    pub(in super::super) gid: u32,
    /// Sorted, each once.
    pub(in super::super) additional_gids: Vec<u32>,
    /// `/` where the image names none. Of the OCI runtimes runc would set it and crun would not.
    pub(in super::super) home: String,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The user that the pod asks for, or else the one that the image names (`user`, `uid`,
/// `user:group`, ... or nothing, which is root).
///
/// # Errors
/// Where a name is not in the image, a number is not one of a user, or the user is root and may not.
pub(in super::super) fn resolve(
    image_user: &str,
    security: &SecurityConfig,
    files: &UserFiles,
) -> Result<ProcessUser, RuntimeError> {
    let (user, group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (image_user, None),
    };
    // A group that the image names goes with its user: with another user it means nothing
    // (containerd's generateUserString, internal/cri/server/container_create_linux.go, v2.1).
    let (user, group) = match security.run_as_user {
        Some(uid) => (uid.to_string(), None),
        None => (if user.is_empty() { "0".to_owned() } else { user.to_owned() }, group),
    };
    let account = find_account(&user, &files.passwd)?;
    let gid = match (security.run_as_group, group) {
        (Some(gid), _) => number(gid)?,
        (None, Some(group)) => find_group(group, &files.group)?,
        (None, None) => account.gid,
    };
    if security.run_as_non_root && account.uid == 0 {
        let text = "the container must not run as root, and its user is root";
        return Err(RuntimeError::Invalid(text.to_owned()));
    }
    let mut additional_gids = vec![gid];
    if !security.strict_groups {
        additional_gids.extend(memberships(account.name, &files.group));
    }
    for gid in &security.supplemental_groups {
        additional_gids.push(number(*gid)?);
    }
    additional_gids.sort_unstable();
    additional_gids.dedup();
    let home = if account.home.is_empty() { "/" } else { account.home }.to_owned();
    Ok(ProcessUser { uid: account.uid, gid, additional_gids, home })
}

fn number(id: i64) -> Result<u32, RuntimeError> {
    u32::try_from(id).map_err(|_| RuntimeError::Invalid(format!("{id} is not a user or group id")))
}

/// A name must be in the image; a number need not, and has group 0 then.
fn find_account<'a>(user: &'a str, passwd: &'a str) -> Result<Account<'a>, RuntimeError> {
    let number = user.parse::<u32>().ok();
    let mut accounts = passwd.lines().filter_map(parse_account);
    let found = accounts.find(|account| match number {
        Some(uid) => account.uid == uid,
        None => account.name == user,
    });
    match (found, number) {
        (Some(account), _) => Ok(account),
        (None, Some(uid)) => Ok(Account { name: "", uid, gid: 0, home: "" }),
        (None, None) => Err(RuntimeError::Invalid(format!("the image has no user `{user}`"))),
    }
}

/// passwd(5): `name:password:uid:gid:comment:home:shell`.
fn parse_account(line: &str) -> Option<Account<'_>> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
}

fn find_group(group: &str, groups: &str) -> Result<u32, RuntimeError> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    let found = groups.lines().filter_map(parse_group).find(|(name, ..)| *name == group);
    found
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| RuntimeError::Invalid(format!("the image has no group `{group}`")))
}

/// The groups that list the user as a member.
fn memberships<'a>(user: &'a str, groups: &'a str) -> impl Iterator<Item = u32> + 'a {
    let member = move |members: &str| members.split(',').any(|member| member.trim() == user);
    let groups = groups.lines().filter_map(parse_group);
    groups.filter(move |(_, _, members)| !user.is_empty() && member(members)).map(|(_, gid, _)| gid)
}

/// group(5): `name:password:gid:member,member`.
fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:33:34:www:/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:other,web\nadm:x:4:root\n";

    fn check_with(image_user: &str, security: SecurityConfig, expected: &str) {
        let files = UserFiles { passwd: PASSWD.to_owned(), group: GROUP.to_owned() };
        let line = match resolve(image_user, &security, &files) {
            Ok(user) => format!("{}:{} {:?}", user.uid, user.gid, user.additional_gids),
            Err(error) => error.to_string(),
        };
        assert_eq!(line, expected, "{image_user:?} {security:?}");
    }

    fn check(image_user: &str, expected: &str) {
        check_with(image_user, SecurityConfig::default(), expected);
    }

    #[test]
    fn the_image_names_the_user() {
        check("", "0:0 [0, 4]");
        check("web", "33:34 [34, 50]");
        check("33", "33:34 [34, 50]");
        check("web:logs", "33:50 [50]");
        check("web:7", "33:7 [7, 50]");
        check("1000", "1000:0 [0]");
        check("1000:1001", "1000:1001 [1001]");
        check("nobody", "the image has no user `nobody`");
        check("web:nobody", "the image has no group `nobody`");
    }

    #[test]
    fn the_pod_overrides_the_image() {
        let security = SecurityConfig {
            run_as_user: Some(33),
            supplemental_groups: vec![2_000, 50],
            ..SecurityConfig::default()
        };
        check_with("nobody:nogroup", security.clone(), "33:34 [34, 50, 2000]");
        let security = SecurityConfig { run_as_group: Some(9), ..security };
        check_with("", security, "33:9 [9, 50, 2000]");
        let security = SecurityConfig { run_as_user: Some(-1), ..SecurityConfig::default() };
        check_with("", security, "the image has no user `-1`");
    }

    #[test]
    fn the_image_names_the_home() {
        let files = UserFiles { passwd: PASSWD.to_owned(), group: GROUP.to_owned() };
        for (user, expected) in [("root", "/root"), ("web", "/"), ("1000", "/")] {
            let user = resolve(user, &SecurityConfig::default(), &files).unwrap();
            assert_eq!(user.home, expected);
        }
    }

    #[test]
    fn root_may_be_forbidden() {
        let security = SecurityConfig { run_as_non_root: true, ..SecurityConfig::default() };
        check_with("web", security.clone(), "33:34 [34, 50]");
        let refused = "the container must not run as root, and its user is root";
        check_with("", security, refused);
    }
}
