//! How much memory the parts of a transaction ask for.

use allocation_counter::measure;
use tests::operations::Operations;

#[test]
fn decode_and_encode_allocate_nothing_and_a_transaction_little() {
    let mut operations = Operations::new(0);
    // What is made once is made.
    (0..1_000).for_each(|_| operations.transaction());
    assert_eq!(measure(|| operations.decode()).count_total, 0);
    assert_eq!(measure(|| operations.encode(10)).count_total, 0);
    assert_eq!(measure(|| operations.verify_pin()).count_total, 0);
    let transactions = measure(|| (0..1_000).for_each(|_| operations.transaction()));
    assert!(transactions.count_total < 8_100, "{transactions:?}");
}
