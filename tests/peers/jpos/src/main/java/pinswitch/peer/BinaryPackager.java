package pinswitch.peer;

import org.jpos.iso.IFB_LLLNUM;
import org.jpos.iso.IFB_LLNUM;
import org.jpos.iso.packager.ISO87BPackager;

/**
 * The dialect iso8583-1987-binary. jPOS's own packager for packed digits writes an odd number of
 * digits before the unused nibble where the element has a length prefix, and behind it everywhere
 * else; and track 3 as text. The dialect has the digits behind the nibble everywhere.
 *
 * <p>Of the packager for ASCII nothing needs to be changed, if DE55 is given to it as hexadecimal
 * digits. In both, DE93 and DE96 are longer than in the standard and in the dialects: 6 characters
 * for 5, and 16 bytes for 8.
 */
public final class BinaryPackager extends ISO87BPackager {
    public BinaryPackager() {
        for (int element : new int[] {2, 32, 33, 35, 99, 100}) {
            int digits = fld[element].getLength();
            setFieldPackager(element, new IFB_LLNUM(digits, fld[element].getDescription(), true));
        }
        setFieldPackager(36, new IFB_LLLNUM(104, fld[36].getDescription(), true));
    }
}
