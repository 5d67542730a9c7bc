package pinswitch.peer;

import java.security.GeneralSecurityException;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.spec.SecretKeySpec;
import org.jpos.iso.ISOUtil;

/** PIN blocks of ISO 9564-1 format 0 under a double-length triple DES key. */
final class PinBlock {
    private final SecretKeySpec key;

    PinBlock(String zpk) {
        byte[] both = ISOUtil.hex2byte(zpk);
        // The first half is the third key.
        byte[] three = Arrays.copyOf(both, 24);
        System.arraycopy(both, 0, three, 16, 8);
        key = new SecretKeySpec(three, "DESede");
    }

    byte[] of(String pin, String pan) throws GeneralSecurityException {
        String withPin = String.format("0%X%s", pin.length(), pin);
        withPin += "F".repeat(16 - withPin.length());
        // The last twelve digits before the check digit.
        String withPan = "0000" + pan.substring(pan.length() - 13, pan.length() - 1);
        byte[] clear = ISOUtil.xor(ISOUtil.hex2byte(withPin), ISOUtil.hex2byte(withPan));
        Cipher cipher = Cipher.getInstance("DESede/ECB/NoPadding");
        cipher.init(Cipher.ENCRYPT_MODE, key);
        return cipher.doFinal(clear);
    }
}
