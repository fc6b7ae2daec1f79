//! Versions and services; what was recorded of real gits; what fuzzing found.

mod recorded;
mod replay;

use bstr::BStr;

use super::{Service, Version};

#[test]
fn the_highest_version_that_both_know_wins() {
    let table: [(Option<&[u8]>, Version); 14] = [
        (None, Version::V0),
        (Some(b""), Version::V0),
        (Some(b"version=0"), Version::V0),
        (Some(b"version=1"), Version::V1),
        (Some(b"version=2"), Version::V2),
        (Some(b"version=3"), Version::V0),
        (Some(b"version=1:version=2"), Version::V2),
        (Some(b"version=2:version=1:version=0"), Version::V2),
        (Some(b"version=9:version=1:frotz"), Version::V1),
        (Some(b":key=value:version=2:"), Version::V2),
        (Some(b"version=2 "), Version::V0),
        (Some(b" version=2"), Version::V0),
        (Some(b"Version=2"), Version::V0),
        (Some(b"\xff\x00:version=02:version=22:version=2=2"), Version::V0),
    ];
    for (value, version) in table {
        assert_eq!(Version::from_header(value), version, "{:?}", value.map(BStr::new));
    }
}

#[test]
fn services_have_their_names() {
    for service in [Service::UploadPack, Service::ReceivePack] {
        assert_eq!(Service::from_name(service.name().as_bytes()), Some(service));
    }
    for name in [
        &b""[..],
        b"upload-pack",
        b"git-upload-archive",
        b"git-upload-pack\n",
        b"GIT-UPLOAD-PACK",
    ] {
        assert_eq!(Service::from_name(name), None);
    }
}
