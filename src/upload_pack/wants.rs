//! Which objects a client may ask for: tips of refs that it may see, and commits that those reach.
//!
//! An object that merely exists is not enough: it may belong to a hidden ref, to a ref that was deleted, or to another
//! repository that lends its objects.

use gix_hash::ObjectId;
use gix_object::Kind;
use hashbrown::HashSet;

use super::{Error, View};
use crate::interrupt::Interrupt;
use crate::pack::commits::reachable;
use crate::repository::Repository;
use crate::repository::objects::{self, Objects};

/// Returns the first of `wants` that may not be asked for. What a ref points at and is not there is as good as unknown,
/// as it is to git.
pub(super) fn first_refused(
    repository: &Repository,
    view: &View<'_>,
    objects: &mut Objects,
    wants: &[ObjectId],
    interrupt: &Interrupt,
) -> Result<Option<ObjectId>, Error> {
    for want in wants {
        if !objects.contains(want)? {
            return Ok(Some(*want));
        }
    }
    let settings = repository.settings();
    let mut open: HashSet<ObjectId> = wants.iter().copied().collect();
    if let (_, Some(id)) = view.head() {
        open.remove(&id);
    }
    for entry in view.refs.iter() {
        if open.is_empty() {
            break;
        }
        if settings.allow_tip_sha1_in_want || view.shows(entry.name) {
            open.remove(&entry.id);
        }
    }
    if settings.allow_any_sha1_in_want || open.is_empty() {
        return Ok(None);
    }
    let mut commits = Vec::new();
    for &want in wants.iter().filter(|want| open.contains(*want)) {
        // Only commits are found by walking history. Other objects are named by those who walk trees themselves.
        if objects.kind(&want)? != Some(Kind::Commit) {
            return Ok(Some(want));
        }
        commits.push(want);
    }
    let mut tips = Vec::new();
    for entry in view.refs.iter().filter(|entry| view.shows(entry.name)) {
        tips.push(view.peel(&entry)?.unwrap_or(entry.id));
    }
    tips.extend(view.head().1);
    let tips = commits_among(objects, tips)?;
    let graph = repository.object_store().commit_graph();
    let answer = reachable(objects, graph.as_deref(), &tips, &commits, interrupt)?;
    Ok(commits
        .iter()
        .zip(answer)
        .find(|(_, is_reachable)| !is_reachable)
        .map(|(&want, _)| want))
}

/// The commits among `ids`. What is gone or damaged is none, and no reason to refuse what others reach.
fn commits_among(objects: &mut Objects, ids: Vec<ObjectId>) -> Result<Vec<ObjectId>, Error> {
    let mut commits = Vec::new();
    for id in ids {
        match objects.kind(&id) {
            Ok(Some(Kind::Commit)) => commits.push(id),
            Ok(_) | Err(objects::Error::Corrupt { .. }) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::testing::{Fixture, git, git_id};

    #[test]
    fn refs_whose_objects_are_gone_or_damaged_hide_nothing_that_others_reach() {
        let fixture = Fixture::new(0);
        let dir = fixture.dir();
        let tree = git_id(&dir, &["mktree"], b"").to_string();
        let commit = |text: &[u8], parents: &[&str]| {
            git_id(&dir, &[&["commit-tree", &tree][..], parents].concat(), text)
        };
        let old = commit(b"old\n", &[]);
        let new = commit(b"new\n", &["-p", &old.to_string()]);
        let damaged = commit(b"damaged\n", &[]);
        git(&dir, &["update-ref", "refs/heads/new", &new.to_string()], b"");
        git(
            &dir,
            &["update-ref", "refs/heads/damaged", &damaged.to_string()],
            b"",
        );
        let hex = damaged.to_string();
        let file = dir.join("objects").join(&hex[..2]).join(&hex[2..]);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, "").unwrap();
        let gone = ObjectId::from_hex(&[b'7'; 40]).unwrap();
        std::fs::write(dir.join("refs/heads/main"), format!("{gone}\n")).unwrap();

        let repository = fixture.open();
        let view = View::new(&repository).unwrap();
        assert_eq!(view.head().1, Some(gone));
        let mut objects = repository.objects().unwrap();
        let mut refused = |wants: &[ObjectId]| {
            first_refused(&repository, &view, &mut objects, wants, &Interrupt::new()).unwrap()
        };
        assert_eq!(refused(&[new, old]), None);
        assert_eq!(refused(&[new, gone, old]), Some(gone));
    }
}
