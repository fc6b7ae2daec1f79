//! From what a URL names to what of it the caller may see.
//!
//! Invariant: nothing is answered that depends on a repository which the caller may not know of, not even that a
//! collection or a project of this name exists; so what a URL means is decided among visible repositories alone.

use uuid::Uuid;

use super::call::Call;
use crate::http::error::{HttpError, TypeKey};
use crate::http::router::Place;
use crate::names::{AccessPath, DEFAULT_COLLECTION, Quoted, RepoPath};
use crate::store::Account;

/// A project, and what of it the caller sees.
#[derive(Debug)]
pub(super) struct Project {
    /// The collection, as it is spelled on disk.
    pub collection: String,
    /// The project, as it is spelled on disk.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Those of its repositories that the caller may know of, by name; never empty.
    pub repositories: Vec<RepoPath>,
}

/// What a URL names, as far as the caller sees it.
#[derive(Debug)]
pub(super) struct Found {
    /// What was named; the likeliest meaning if the caller sees nothing of any.
    pub place: Place,
    /// The projects of it that the caller sees, by name.
    pub projects: Vec<Project>,
}

impl Found {
    /// All repositories in it, each with its project.
    pub fn repositories(&self) -> impl Iterator<Item = (&Project, &RepoPath)> {
        self.projects
            .iter()
            .flat_map(|project| project.repositories.iter().map(move |path| (project, path)))
    }

    /// Takes the project that was named.
    ///
    /// # Errors
    ///
    /// When there is none, or the caller sees nothing of it.
    pub fn require_project(self) -> Result<Found, HttpError> {
        match &self.place.project {
            Some(name) if self.projects.is_empty() => Err(no_project(name)),
            _ => Ok(self),
        }
    }
}

/// The collection that a place lies in.
pub(super) fn collection_of(place: &Place) -> &str {
    place.collection.as_deref().unwrap_or(DEFAULT_COLLECTION)
}

/// Finds what the URL of a call names: of the places that it can mean the first of which the caller sees something.
///
/// # Errors
///
/// When the gate refuses, or the disk cannot be read.
pub(super) fn find(call: &Call) -> Result<Found, HttpError> {
    for place in call.places() {
        let projects = projects_of(call, place)?;
        if !projects.is_empty() {
            return Ok(Found {
                place: place.clone(),
                projects,
            });
        }
    }
    let place = call.places().first().cloned().unwrap_or(Place {
        collection: None,
        project: None,
    });
    Ok(Found {
        place,
        projects: Vec::new(),
    })
}

/// The collection that the URL of a call means to `account`, spelled as on disk: that of the first place in which it sees a
/// repository. The default collection is always there. None where it sees none.
///
/// # Errors
///
/// When the store or the disk cannot be read.
pub(super) fn collection_for(call: &Call, account: &Account) -> Result<Option<String>, HttpError> {
    let default = || Ok(Some(DEFAULT_COLLECTION.to_owned()));
    if call.places().is_empty() {
        return default();
    }
    for place in call.places() {
        let collection = collection_of(place).to_owned();
        let is_default = collection.to_lowercase() == DEFAULT_COLLECTION.to_lowercase();
        let path = match &place.project {
            None if is_default => return default(),
            None => AccessPath::Collection(collection),
            Some(project) => AccessPath::Project(collection, project.clone()),
        };
        for repository in call.repositories().list_below(&path)? {
            if account.is_admin || call.store().role_on(Some(account.id), &repository)?.is_some() {
                return Ok(Some(repository.collection().to_owned()));
            }
        }
    }
    Ok(None)
}

/// The visible projects of a place.
fn projects_of(call: &Call, place: &Place) -> Result<Vec<Project>, HttpError> {
    let collection = collection_of(place).to_owned();
    let Some(asked) = &place.project else {
        return visible(call, &AccessPath::Collection(collection));
    };
    let by_name = visible(call, &AccessPath::Project(collection.clone(), asked.clone()))?;
    match Uuid::try_parse(asked) {
        Ok(id) if by_name.is_empty() => {
            let all = visible(call, &AccessPath::Collection(collection))?;
            Ok(all.into_iter().filter(|project| project.id == id).collect())
        }
        _ => Ok(by_name),
    }
}

/// Groups the repositories below `path` that the caller may know of by their projects.
fn visible(call: &Call, path: &AccessPath) -> Result<Vec<Project>, HttpError> {
    let (ids, gate, principal) = (call.ids()?, call.gate(), call.principal()?);
    let mut projects: Vec<Project> = Vec::new();
    let repositories = call.repositories().list_below(path)?;
    let roles = gate.visible_roles(principal, path, &repositories)?;
    for (repository, role) in repositories.into_iter().zip(roles) {
        if role.is_none() {
            continue;
        }
        match projects.last_mut() {
            Some(project)
                if project.collection == repository.collection() && project.name == repository.project() =>
            {
                project.repositories.push(repository);
            }
            _ => projects.push(Project {
                id: ids.project(repository.collection(), repository.project()),
                collection: repository.collection().to_owned(),
                name: repository.project().to_owned(),
                repositories: vec![repository],
            }),
        }
    }
    Ok(projects)
}

/// The visible repositories of one project, by name.
///
/// # Errors
///
/// When the gate refuses, or the disk cannot be read.
pub(super) fn repositories_of(
    call: &Call,
    collection: &str,
    project: &str,
) -> Result<Vec<RepoPath>, HttpError> {
    let path = AccessPath::Project(collection.to_owned(), project.to_owned());
    let projects = visible(call, &path)?;
    Ok(projects
        .into_iter()
        .flat_map(|project| project.repositories)
        .collect())
}

/// Says that a project is not there, or not to be seen.
pub(super) fn no_project(name: &str) -> HttpError {
    HttpError::absent(format!(
        "TF200016: The following project does not exist: {}. Verify that the name of the project is correct and that \
         you have access to a repository in it.",
        Quoted(name)
    ))
    .keyed(TypeKey::new(
        "Microsoft.TeamFoundation.Core.WebApi",
        "ProjectDoesNotExistWithNameException",
    ))
}

/// Says that a repository is not there, or not to be seen.
pub(super) fn no_repository(name: &str) -> HttpError {
    HttpError::absent(format!(
        "TF401019: The Git repository with name or identifier {} does not exist or you do not have permissions for the \
         operation you are attempting.",
        Quoted(name)
    ))
    .keyed(git_key("GitRepositoryNotFoundException"))
}

/// An exception of Azure DevOps's Git server.
pub(super) const fn git_key(name: &'static str) -> TypeKey {
    TypeKey::new("Microsoft.TeamFoundation.Git.Server", name)
}

/// Finds the repository that a call asks for by `asked`, its name or its id, spelled as on disk; None if there is none
/// that the caller may know of.
///
/// # Errors
///
/// When the token is limited to other paths, the name can mean several, or something fails.
pub(super) fn find_repository(call: &Call, asked: &str) -> Result<Option<RepoPath>, HttpError> {
    let id = Uuid::try_parse(asked).ok();
    if let Some(id) = id
        && let Some(path) = by_id(call, id)?
    {
        return Ok(Some(path));
    }
    let mut candidates = Vec::new();
    for place in call.places() {
        let project = place.project.as_deref().unwrap_or(asked);
        // What cannot be a name is the name of nothing.
        candidates.extend(RepoPath::new(collection_of(place), project, asked).ok());
    }
    let candidates = match call.gate().narrow(call.principal()?, &candidates) {
        Ok(candidates) => candidates,
        // An id says nothing of a path that the token could be limited to.
        Err(_) if id.is_some() => return Ok(None),
        Err(refusal) => return Err(refusal.into()),
    };
    for candidate in candidates.iter() {
        if let Some(path) = call.repositories().locate(candidate)?
            && is_visible(call, &path)?
        {
            return Ok(Some(path));
        }
    }
    // The project may be named by its id, or not at all.
    let found = find(call)?;
    let name = asked.to_lowercase();
    let mut same = found
        .repositories()
        .map(|(_, path)| path)
        .filter(|path| path.repository().to_lowercase() == name);
    match (same.next(), same.next()) {
        (Some(_), Some(_)) if found.place.project.is_none() => Err(HttpError::bad_request(format!(
            "Several projects have a repository {}: name the project in the URL, or give the repository's id.",
            Quoted(asked)
        ))),
        (first, _) => Ok(first.cloned()),
    }
}

/// Finds a repository by its id, if the URL names what it lies in and the caller may know of it.
fn by_id(call: &Call, id: Uuid) -> Result<Option<RepoPath>, HttpError> {
    let Some(path) = call.store().find_repository(id)? else {
        return Ok(None);
    };
    let Some(path) = call.repositories().locate(&path)? else {
        return Ok(None);
    };
    let ids = call.ids()?;
    let lies_in = |place: &Place| {
        let same = |named: &str, name: &str| named.to_lowercase() == name.to_lowercase();
        let in_collection = place
            .collection
            .as_deref()
            .is_none_or(|collection| same(collection, path.collection()))
            // A project without its collection is one of the default collection.
            && (place.collection.is_some()
                || place.project.is_none()
                || same(DEFAULT_COLLECTION, path.collection()));
        let in_project = place.project.as_deref().is_none_or(|project| {
            same(project, path.project())
                || Uuid::try_parse(project) == Ok(ids.project(path.collection(), path.project()))
        });
        in_collection && in_project
    };
    if call.places().iter().any(lies_in) && is_visible(call, &path)? {
        Ok(Some(path))
    } else {
        Ok(None)
    }
}

fn is_visible(call: &Call, path: &RepoPath) -> Result<bool, HttpError> {
    Ok(call.gate().visible_role(call.principal()?, path)?.is_some())
}
