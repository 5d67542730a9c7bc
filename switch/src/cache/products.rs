//! The products as they are at this moment. A card points to its product's entry, whose rules are
//! swapped as a whole: nobody ever sees half of a change, and every decision knows by which rules
//! it was made.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;

use crate::authorization::Product;
use crate::cards::Pan;

/// A product, and the rules that it has now.
#[derive(Debug)]
pub struct ProductEntry {
    name: Box<str>,
    rules: ArcSwap<Product>,
}

impl ProductEntry {
    fn new(product: Arc<Product>) -> ProductEntry {
        ProductEntry { name: product.name.clone(), rules: ArcSwap::new(product) }
    }

    /// Its name, by which stored cards know it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rules at this moment.
    #[must_use]
    pub fn rules(&self) -> Arc<Product> {
        self.rules.load_full()
    }

    /// Whether these are its rules still.
    #[must_use]
    pub fn has(&self, rules: &Arc<Product>) -> bool {
        Arc::ptr_eq(rules, &self.rules.load())
    }
}

/// All products.
#[derive(Debug, Default)]
pub struct Products {
    /// Held for reading while a card is added, and for writing while a product changes: no card
    /// comes to a BIN that goes.
    pub changing: tokio::sync::RwLock<()>,
    entries: RwLock<BTreeMap<Box<str>, Arc<ProductEntry>>>,
    bins: ArcSwap<Bins>,
}

impl Products {
    /// These products.
    #[must_use]
    pub fn new(products: impl IntoIterator<Item = Product>) -> Products {
        let all = Products::default();
        products.into_iter().for_each(|product| drop(all.put(product)));
        all
    }

    /// The entry of a name. A name that no product has gets one whose rules decline everything: a
    /// stored card may have it.
    pub fn entry(&self, name: &str) -> Arc<ProductEntry> {
        if let Some(known) = self.get(name) {
            return known;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let unknown = || Arc::new(ProductEntry::new(Arc::new(Product::unknown(name))));
        let entry = Arc::clone(entries.entry(name.into()).or_insert_with(unknown));
        self.bins.store(Arc::new(Bins::of(entries.values())));
        entry
    }

    /// The entry of a name; `None` where no product has it and no card asked for it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<ProductEntry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(name).cloned()
    }

    /// The rules of a product of this name; `None` where there is none.
    #[must_use]
    pub fn product(&self, name: &str) -> Option<Arc<Product>> {
        Some(self.get(name)?.rules()).filter(|product| product.is_known())
    }

    /// Adds a product, or swaps its rules where they are of an earlier version: two that change it
    /// may come here in either order.
    pub fn put(&self, product: Product) -> Arc<ProductEntry> {
        let product = Arc::new(product);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry = match entries.get(&product.name) {
            Some(entry) => {
                if entry.rules.load().version <= product.version {
                    entry.rules.store(product);
                }
                Arc::clone(entry)
            }
            None => {
                let entry = Arc::new(ProductEntry::new(Arc::clone(&product)));
                entries.insert(product.name.clone(), Arc::clone(&entry));
                entry
            }
        };
        self.bins.store(Arc::new(Bins::of(entries.values())));
        entry
    }

    /// All entries, in the order of their names.
    #[must_use]
    pub fn entries(&self) -> Vec<Arc<ProductEntry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().cloned().collect()
    }

    /// The rules of all products there are, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Product>> {
        let rules = self.entries().into_iter().map(|entry| entry.rules());
        rules.filter(|product| product.is_known()).collect()
    }

    /// Whether a PAN may begin with a BIN of a product.
    #[must_use]
    pub fn have_bin_of(&self, pan: &Pan) -> bool {
        self.bins.load().have(pan.digits())
    }
}

/// The BINs of all products.
#[derive(Debug, Default)]
struct Bins {
    /// Sorted, without those that begin with another one: of the rest, only the last that is not
    /// behind a PAN can begin it.
    sorted: Vec<Box<str>>,
    /// Whether there are cards of a product that is gone: nobody knows its BINs.
    has_unknown: bool,
}

impl Bins {
    fn of<'a>(entries: impl Iterator<Item = &'a Arc<ProductEntry>>) -> Bins {
        let (mut bins, mut has_unknown) = (Vec::new(), false);
        for rules in entries.map(|entry| entry.rules()) {
            has_unknown |= !rules.is_known();
            bins.extend(rules.bins.iter().cloned());
        }
        bins.sort_unstable();
        bins.dedup_by(|longer, shorter| longer.starts_with(&**shorter));
        Bins { sorted: bins, has_unknown }
    }

    fn have(&self, pan: &[u8]) -> bool {
        let behind = self.sorted.partition_point(|bin| bin.as_bytes() <= pan);
        let last = behind.checked_sub(1).and_then(|place| self.sorted.get(place));
        self.has_unknown || last.is_some_and(|bin| pan.starts_with(bin.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(name: &str, version: u64, bins: &[&str]) -> Product {
        let bins = bins.iter().map(|bin| (*bin).into()).collect();
        Product { bins, version, currency: 978, ..Product::unknown(name) }
    }

    #[test]
    fn a_pan_is_ours_by_any_bin_of_any_product() {
        let products = Products::new([
            product("one", 1, &["476134", "4761351"]),
            product("two", 1, &["5413", "541333", "4761"]),
        ]);
        for (pan, is_ours) in [
            ("4761340000000019", true),
            ("4761990000000001", true),
            ("5413330000000019", true),
            ("5412999999999999", false),
            ("4760999999999999", false),
            ("9999999999999995", false),
            ("0000000000000000", false),
        ] {
            assert_eq!(
                products.have_bin_of(&Pan::parse(pan.as_bytes()).unwrap()),
                is_ours,
                "{pan}"
            );
        }
    }

    #[test]
    fn a_later_version_stays_whichever_comes_last() {
        let products = Products::new([product("one", 1, &["476134"])]);
        let before = products.product("one").unwrap();
        let entry = products.put(product("one", 3, &["476135"]));
        products.put(product("one", 2, &["476136"]));
        assert_eq!((entry.rules().version, entry.has(&before)), (3, false));
        assert!(products.have_bin_of(&Pan::parse(b"4761350000000000").unwrap()));
        assert!(!products.have_bin_of(&Pan::parse(b"4761340000000019").unwrap()));
    }

    #[test]
    fn a_name_that_no_product_has_declines_until_there_is_one() {
        let products = Products::default();
        let entry = products.entry("gone");
        assert!(!entry.rules().is_known() && products.product("gone").is_none());
        let pan = Pan::parse(b"5413330000000019").unwrap();
        assert!(products.have_bin_of(&pan), "nobody knows the BINs of its cards");
        products.put(product("gone", 1, &["476134"]));
        assert!(entry.rules().is_known() && !products.have_bin_of(&pan));
    }
}
