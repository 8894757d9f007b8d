//! What a new cloud needs before anything else: its signing key, its first prices and SKUs, its first operator.

use gregal_core::{
    access::{Action, Role},
    id::{KeyId, RequestId},
    key::{self, Key},
    sku::{self, Offer},
};
use gregal_store::{PAGE_MAX, Page, Tx};

use crate::{
    Actor, Control, ControlOptions, Cx, Error, Result,
    context::{Facts as _, Source},
    signer::Signer,
};

/// Where the signing key is kept.
const SIGNING_KEY: &str = "control.signing_key";

/// Makes what is not there yet; answers the signing key's bytes.
pub(crate) async fn founded(options: &ControlOptions) -> Result<[u8; 32]> {
    let now = options.world.now();
    let cx = Cx::new(&*options.world, RequestId::new(&*options.world), now, Actor::System("start"), Source::Task);
    let tx = options.store.begin().await?;
    let mut entries = Vec::new();
    let key = if let Some(bytes) = tx.meta_get(SIGNING_KEY).await? {
        let unreadable = |_| Error::Broken("the stored signing key has not 32 bytes".into());
        <[u8; 32]>::try_from(bytes).map_err(unreadable)?
    } else {
        let mut bytes = [0; 32];
        options.world.fill(&mut bytes);
        tx.meta_put(SIGNING_KEY, &bytes).await?;
        let public = Signer::from_bytes(&bytes).public_hex();
        entries.push(cx.done(None, "signing_key:create", &options.origin).fact("public_key", public));
        bytes
    };
    let books = tx.price_books_all().await?;
    let newest = books.iter().max_by_key(|book| (book.from, book.version));
    let with_replicas = newest.and_then(gregal_core::price::with_replicas);
    if let Some(book) = &with_replicas {
        book.check().map_err(|error| Error::Broken(error.to_string()))?;
        tx.price_book_insert(book).await?;
        entries.push(cx.done(None, "price_book:create", book.version).fact("replica_core_nano", 0));
    }
    if let Some(book) = with_replicas.as_ref().or(newest).and_then(gregal_core::price::with_reservations) {
        book.check().map_err(|error| Error::Broken(error.to_string()))?;
        tx.price_book_insert(&book).await?;
        entries.push(cx.done(None, "price_book:create", book.version).fact("reserved", "as a job's"));
    }
    if books.is_empty() {
        let book = options.first_prices.clone();
        book.check().map_err(|error| Error::Broken(error.to_string()))?;
        tx.price_book_insert(&book).await?;
        entries.push(cx.done(None, "price_book:create", book.version));
    }
    // What an older program had compiled in; from here on the catalogue is the operator's.
    if tx.skus_all().await?.offers().is_empty() {
        for sku in sku::default_skus() {
            entries.push(cx.done(None, Action::SkuWrite.as_str(), &sku.name));
            tx.sku_insert(&Offer { sku, created_at: now, retired_at: None, version: 1 }).await?;
        }
    }
    if !entries.is_empty() {
        tx.commit(&entries).await?;
    }
    Ok(key)
}

impl Control {
    /// Makes the first operator's key if there is none that works; answers its secret, which is shown only now.
    pub async fn operator_key_ensure(&self) -> Result<Option<String>> {
        let cx = self.system("start");
        let mut page = Page::first(PAGE_MAX);
        // Looked for and made in one transaction: two replicas that start together make one.
        let tx = self.store().begin().await?;
        loop {
            let keys = tx.operator_keys_list(&page).await?;
            if keys.items.iter().any(|key| key.works_at(cx.now)) {
                return Ok(None);
            }
            let Some(next) = keys.next else { break };
            page = Page::after(next, PAGE_MAX);
        }
        self.operator_key_insert(&cx, tx).await.map(Some)
    }

    /// Makes one more operator's key and answers its secret, which is shown only now. For whoever holds the process and
    /// its store: the way back in when the first key was lost.
    pub async fn operator_key_mint(&self) -> Result<String> {
        let cx = self.system("start");
        let tx = self.store().begin().await?;
        self.operator_key_insert(&cx, tx).await
    }

    async fn operator_key_insert(&self, cx: &Cx, tx: Tx) -> Result<String> {
        let secret = self.secret();
        let key = Key {
            id: KeyId::new(self.world()),
            organisation: None,
            project: None,
            name: "operator".into(),
            role: Role::Operator,
            digest: key::digest_of(&secret),
            kind: key::KeyKind::Made,
            person: None,
            account: None,
            scope: key::Scope::default(),
            created_at: cx.now,
            expires_at: None,
            revoked_at: None,
            replaces: None,
            replaced_by: None,
            version: 1,
        };
        tx.key_insert(&key).await?;
        tx.commit(&[cx.done(None, Action::KeyCreate.as_str(), key.id).fact("role", key.role.as_str())]).await?;
        Ok(secret)
    }
}
