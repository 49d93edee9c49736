//! Settings of buckets.

use crate::client::bare;
use crate::node::serve;

#[test]
fn settings_are_put_read_back_and_removed() {
    let cors = "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>";
    let life = "<LifecycleConfiguration><Rule><ID>r</ID><Filter><Prefix>p/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule></LifecycleConfiguration>";
    let site =
        "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>";
    let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    let owned = "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>";
    let block =
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>";
    let all = [
        ("cors", cors, "AllowedMethod", "GET", "NoSuchCORSConfiguration"),
        ("lifecycle", life, "Days", "3", "NoSuchLifecycleConfiguration"),
        ("website", site, "Suffix", "index.html", "NoSuchWebsiteConfiguration"),
        ("tagging", tags, "Value", "v", "NoSuchTagSet"),
        ("ownershipControls", owned, "ObjectOwnership", "ObjectWriter", "OwnershipControlsNotFoundError"),
        ("publicAccessBlock", block, "BlockPublicAcls", "true", "NoSuchPublicAccessBlockConfiguration"),
    ];
    serve(move |node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        for (name, document, element, value, missing) in all {
            let target = format!("/bucket?{name}");
            ann.get(&target).await.fails(404, missing);
            assert!(ann.put(&target, document).await.status.is_success(), "{name}");
            assert_eq!(ann.get(&target).await.is(200).element(element).as_deref(), Some(value), "{name}");
            node.bob().get(&target).await.fails(403, "AccessDenied");
            node.bob().put(&target, document).await.fails(403, "AccessDenied");
            ann.put(&target, "<Nonsense/>").await.fails(400, "MalformedXML");
            ann.put(&target, "no xml").await.fails(400, "MalformedXML");
            ann.delete(&target).await.is(204);
            ann.get(&target).await.fails(404, missing);
        }
        assert_eq!(ann.get("/bucket?location").await.is(200).element("LocationConstraint"), None);
        assert_eq!(ann.get("/bucket?requestPayment").await.is(200).element("Payer").as_deref(), Some("BucketOwner"));
        for name in ["logging", "notification", "accelerate"] {
            ann.get(&format!("/bucket?{name}")).await.is(200);
        }
        ann.get("/bucket?encryption").await.fails(404, "ServerSideEncryptionConfigurationNotFoundError");
        ann.get("/bucket?replication").await.fails(404, "ReplicationConfigurationNotFoundError");
        for name in
            ["encryption", "replication", "logging", "notification", "accelerate", "requestPayment", "analytics&id=1"]
        {
            ann.put(&format!("/bucket?{name}"), "").await.fails(501, "NotImplemented");
        }
    });
}

#[test]
fn a_bucket_says_whether_one_node_alone_may_take_writes() {
    serve(|node| async move {
        let (ann, target) = (node.ann(), "/bucket?x-cairn-offline");
        ann.bucket("bucket").await;
        assert_eq!(ann.get(target).await.is(200).text(), "accept");
        ann.put(target, "reject").await.is(200);
        assert_eq!(ann.get(target).await.is(200).text(), "reject");
        ann.put(target, "perhaps").await.fails(400, "InvalidArgument");
        node.bob().put(target, "accept").await.fails(403, "AccessDenied");
        node.bob().get(target).await.fails(403, "AccessDenied");
        assert_eq!(ann.get(target).await.is(200).text(), "reject");
    });
}

#[test]
fn rules_that_are_not_understood_are_refused() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        let life = |rule: &str| format!("<LifecycleConfiguration><Rule>{rule}</Rule></LifecycleConfiguration>");
        let begin = "<Filter><Prefix/></Filter><Status>Enabled</Status>";
        let cases = [
            (life(&format!("{begin}<Expiration><Days>0</Days></Expiration>")), 400, "InvalidArgument"),
            (
                life(&format!("{begin}<Expiration><Days>1</Days><Date>2030-01-01T00:00:00Z</Date></Expiration>")),
                400,
                "MalformedXML",
            ),
            (life(begin), 400, "MalformedXML"),
            (life("<Prefix/><Status>Perhaps</Status><Expiration><Days>1</Days></Expiration>"), 400, "MalformedXML"),
            (
                life(&format!("{begin}<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>")),
                501,
                "NotImplemented",
            ),
        ];
        for (document, status, code) in cases {
            ann.put("/bucket?lifecycle", document).await.fails(status, code);
        }
        let cors = |method: &str| {
            format!(
                "<CORSConfiguration><CORSRule><AllowedMethod>{method}</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>"
            )
        };
        ann.put("/bucket?cors", cors("DANCE")).await.fails(400, "InvalidRequest");
        ann.put("/bucket?versioning", "<VersioningConfiguration><Status>Off</Status></VersioningConfiguration>")
            .await
            .fails(400, "MalformedXML");
        ann.put(
            "/new-bucket",
            "<CreateBucketConfiguration><LocationConstraint>mars</LocationConstraint></CreateBucketConfiguration>",
        )
        .await
        .fails(400, "IllegalLocationConstraintException");
    });
}

#[test]
fn browsers_are_told_what_they_may() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        ann.send("PUT", "/bucket/k", &[("x-amz-acl", "public-read")], "x").await.is(200);
        let ask = |method: &'static str, headers: Vec<(&'static str, &'static str)>| async move {
            bare(node.at, method, "/bucket/k", &headers, "").await
        };
        let preflight = vec![
            ("origin", "http://a.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-amz-date"),
        ];
        ask("OPTIONS", preflight.clone()).await.fails(403, "AccessDenied");
        let rule = "<CORSRule><AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedOrigin>http://*.example</AllowedOrigin><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>etag</ExposeHeader><MaxAgeSeconds>50</MaxAgeSeconds></CORSRule>";
        ann.put("/bucket?cors", format!("<CORSConfiguration>{rule}</CORSConfiguration>")).await.is(200);
        let told = ask("OPTIONS", preflight).await.is(200);
        assert_eq!(told.header("access-control-allow-origin"), Some("http://a.example"));
        assert_eq!(
            (told.header("access-control-max-age"), told.header("access-control-allow-headers")),
            (Some("50"), Some("x-amz-date"))
        );
        ask("OPTIONS", vec![("origin", "http://a.other"), ("access-control-request-method", "PUT")])
            .await
            .fails(403, "AccessDenied");
        ask("OPTIONS", vec![("origin", "http://a.example"), ("access-control-request-method", "DELETE")])
            .await
            .fails(403, "AccessDenied");
        ask("OPTIONS", vec![("origin", "http://a.example")]).await.fails(400, "BadRequest");
        let refused = ask("PUT", vec![("origin", "http://a.example")]).await.fails(403, "AccessDenied");
        assert_eq!(refused.header("access-control-allow-origin"), Some("http://a.example"), "its page may see why");
        let invalid = ask("GET", vec![("origin", "http://a.example"), ("range", "bytes=9-")]).await.is(416);
        assert_eq!(invalid.header("access-control-allow-origin"), Some("http://a.example"));
        let got = ask("GET", vec![("origin", "http://b.example")]).await.is(200);
        assert_eq!(
            (got.header("access-control-allow-origin"), got.header("access-control-expose-headers")),
            (Some("http://b.example"), Some("etag"))
        );
        assert_eq!(
            ask("GET", vec![("origin", "http://b.other")]).await.is(200).header("access-control-allow-origin"),
            None
        );
    });
}

#[test]
fn buckets_are_shown_as_websites() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("pages").await;
        let show = |method: &'static str, target: &'static str| async move {
            bare(node.at, method, target, &[("host", "pages.site.test")], "").await
        };
        assert!(show("GET", "/").await.is(404).text().contains("NoSuchWebsiteConfiguration"));
        ann.put("/pages?website", "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument><ErrorDocument><Key>sorry.html</Key></ErrorDocument></WebsiteConfiguration>").await.is(200);
        assert!(show("GET", "/").await.is(403).text().contains("AccessDenied"), "nothing is public yet");
        for (key, text) in
            [("index.html", "home"), ("docs/index.html", "docs"), ("sorry.html", "sorry"), ("page", "page")]
        {
            ann.send(
                "PUT",
                &format!("/pages/{key}"),
                &[("x-amz-acl", "public-read"), ("content-type", "text/html")],
                text,
            )
            .await
            .is(200);
        }
        ann.send("PUT", "/pages?acl", &[("x-amz-acl", "public-read")], "").await.is(200);
        assert_eq!(show("GET", "/").await.is(200).text(), "home");
        assert_eq!(show("GET", "/docs/").await.is(200).text(), "docs");
        assert_eq!(show("GET", "/docs").await.is(302).header("location"), Some("/docs/"));
        let page = show("GET", "/page").await.is(200);
        assert_eq!((page.text().as_str(), page.header("content-type")), ("page", Some("text/html")));
        assert_eq!(show("GET", "/nothing").await.is(404).text(), "sorry");
        show("HEAD", "/nothing").await.is(404);
        show("PUT", "/page").await.fails(405, "MethodNotAllowed");
        ann.send(
            "PUT",
            "/pages/moved",
            &[("x-amz-acl", "public-read"), ("x-amz-website-redirect-location", "/page")],
            "",
        )
        .await
        .is(200);
        assert_eq!(show("GET", "/moved").await.is(301).header("location"), Some("/page"));
    });
}

/// Each puts its own tags; they were told to try again themselves when others were faster too often.
#[test]
fn a_hundred_that_tag_at_the_same_time_are_all_obeyed() {
    serve(|node| async move {
        let ann = node.ann();
        ann.bucket("bucket").await;
        ann.put("/bucket/k", "x").await.is(200);
        let tags =
            |number: u32| format!("<Tagging><TagSet><Tag><Key>k</Key><Value>{number}</Value></Tag></TagSet></Tagging>");
        for target in ["/bucket?tagging", "/bucket/k?tagging"] {
            let put = |number| {
                let ann = ann.clone();
                async move { ann.put(target, tags(number)).await.status.as_u16() }
            };
            let statuses = futures_util::future::join_all((0..100).map(put)).await;
            assert!(statuses.iter().all(|status| matches!(status, 200 | 204)), "{target}: {statuses:?}");
            assert!(ann.get(target).await.is(200).element("Value").is_some());
        }
    });
}
