// As lookup.c, by Java's InetAddress. Its own caches, 30 s and 10 s, are off.
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.security.Security;
import java.util.Arrays;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;

class Lookup {
    public static void main(String[] args) {
        Security.setProperty("networkaddress.cache.ttl", "0");
        Security.setProperty("networkaddress.cache.negative.ttl", "0");
        int count = Integer.parseInt(args[0]);
        int failed = 0;
        long[] took = new long[count];
        Set<String> seen = new TreeSet<>();
        for (int number = 0; number < count; number++) {
            String[] entry = args[1 + number % (args.length - 1)].split("=", 2);
            Set<String> found = new TreeSet<>();
            String trouble = "";
            long began = System.nanoTime();
            try {
                for (InetAddress address : InetAddress.getAllByName(entry[0])) found.add(address.getHostAddress());
            } catch (UnknownHostException error) {
                trouble = error.getMessage();
            }
            took[number] = (System.nanoTime() - began) / 1000;
            boolean isExpected = entry[1].isEmpty()
                ? trouble.endsWith("Name or service not known")
                : !found.isEmpty() && Arrays.asList(entry[1].split(",")).containsAll(found);
            if (isExpected) {
                seen.addAll(found);
            } else if (failed++ < 5) {
                System.err.printf("lookup %d of %s=%s: %s %s%n", number, entry[0], entry[1], found, trouble);
            }
        }
        Arrays.sort(took);
        long late = Arrays.stream(took).filter(each -> each > 100_000).count();
        String addresses = seen.stream().map(each -> '"' + each + '"').collect(Collectors.joining(", "));
        System.out.printf("{\"lookups\": %d, \"failed\": %d, \"late\": %d, \"median_us\": %d, \"max_us\": %d, \"seen\": [%s]}%n",
            count, failed, late, took[count / 2], took[count - 1], addresses);
    }
}
