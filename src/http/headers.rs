//! Headers that git http-backend sends, in its order, and content types of gitprotocol-http(5).

use hyper::HeaderMap;
use hyper::header::{CACHE_CONTROL, EXPIRES, HeaderValue, PRAGMA};

use crate::protocol::Service;

/// Adds `Expires`, `Pragma` and `Cache-Control`: an answer of Git is never to be kept by a cache.
pub fn no_cache(headers: &mut HeaderMap) {
    headers.insert(EXPIRES, HeaderValue::from_static("Fri, 01 Jan 1980 00:00:00 GMT"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, max-age=0, must-revalidate"),
    );
}

/// The type of a ref advertisement.
pub fn advertisement(service: Service) -> &'static str {
    match service {
        Service::UploadPack => "application/x-git-upload-pack-advertisement",
        Service::ReceivePack => "application/x-git-receive-pack-advertisement",
    }
}

/// The type that a POST must have.
pub fn request(service: Service) -> &'static str {
    match service {
        Service::UploadPack => "application/x-git-upload-pack-request",
        Service::ReceivePack => "application/x-git-receive-pack-request",
    }
}

/// The type of what answers it.
pub fn result(service: Service) -> &'static str {
    match service {
        Service::UploadPack => "application/x-git-upload-pack-result",
        Service::ReceivePack => "application/x-git-receive-pack-result",
    }
}
