//! What expressions evaluate to.

use super::value_of;

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(value_of(text), *expected, "{text}");
    }
}

#[test]
fn operators_do_what_they_do_elsewhere_and_say_where_they_overflow() {
    check(&[
        ("1 + 2 * 3 - 4 / 2 % 2", "7"),
        ("-(-9223372036854775808)", "!integer overflow"),
        ("9223372036854775807 + 1", "!integer overflow"),
        ("0u - 1u", "!unsigned integer overflow"),
        ("1 / 0", "!division by zero"),
        ("1 % 0", "!modulus by zero"),
        ("1.0 / 0.0", "+Inf"),
        ("7 / -2", "-3"),
        ("-7 % 3", "-1"),
        ("'a' + 'b' + \"c\"", "abc"),
        ("b'a' + b'b' == b'ab'", "true"),
        ("[1] + [2, 3]", "[1, 2, 3]"),
        ("!true || !false", "true"),
        ("1 < 2 && 2.5 > 2 && 1u <= 1 && 'a' < 'b'", "true"),
        ("dyn(1) == 1.0 && dyn(1u) == 1 && dyn(2) != 'a'", "true"),
        ("true ? 1 : 2", "1"),
        ("1 in [1, 2] && !('x' in ['y']) && 'k' in self.map", "true"),
        ("{'a': 1}['a'] + {'b': 2}.b", "3"),
        ("{1: 'a'}[dyn(1u)]", "a"),
        ("[1, 2, 3][1]", "2"),
        ("[1][5]", "!index out of bounds: 5"),
        ("{'a': 1}['b']", "!no such key: b"),
        ("0x1F == 31 && 1e3 == 1000.0 && .5 == 0.5", "true"),
    ]);
}

#[test]
fn errors_are_passed_by_where_they_do_not_matter() {
    check(&[
        ("1 / 0 == 1 || true", "true"),
        ("true || 1 / 0 == 1", "true"),
        ("1 / 0 == 1 && false", "false"),
        ("1 / 0 == 1 || false", "!division by zero"),
        ("[1, 0].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("[0, 1].all(x, 1 / x == 2)", "false"),
        ("[0, 1].all(x, 1 / x == 1)", "!division by zero"),
        ("false ? 1 / 0 : 1", "1"),
    ]);
}

#[test]
fn fields_are_read_where_they_are_as_they_are_declared() {
    check(&[
        ("self.text + self.name", "abcweb"),
        ("self.count + 1", "4"),
        ("self.ratio * 2.0", "3"),
        ("self.my__dash__field__dot__x", "7"),
        ("self.__namespace__", "shop"),
        ("type(self.any) == string && self.any.endsWith('%')", "true"),
        ("self.at.getHours() + self.at.getMilliseconds()", "11"),
        ("self.at.getDayOfWeek('Asia/Tokyo')", "6"),
        ("self.span == duration('90m')", "true"),
        ("string(self.data)", "hi"),
        ("has(self.text) && !has(self.inner.n)", "true"),
        ("self.inner.n", "!no such key: n"),
        ("self.map.k + self.map['l']", "vw"),
        ("has(self.map.zz)", "false"),
        ("self.items.map(i, i.name)", "[a, b]"),
        ("self.set == ['y', 'x']", "true"),
        ("self.list == ['c', 'b', 'a']", "false"),
        ("self.set + ['x', 'z']", "[x, y, z]"),
        ("size(self.items) + self.map.size()", "4"),
        ("self.inner == self.inner", "true"),
        ("self.items == self.items", "true"),
    ]);
}

#[test]
fn macros_go_over_lists_and_maps() {
    check(&[
        ("[1, 2, 3].all(x, x > 0)", "true"),
        ("[1, 2, 3].exists_one(x, x > 2) && [1].existsOne(x, true)", "true"),
        ("[1, 2, 3].filter(x, x != 2)", "[1, 3]"),
        ("[1, 2, 3].map(x, x * x)", "[1, 4, 9]"),
        ("[1, 2, 3].map(x, x > 1, x * x)", "[4, 9]"),
        ("{'a': 1, 'b': 2}.map(k, k)", "[a, b]"),
        ("[[1, 2], [3]].map(l, l.map(x, x + 1))", "[[2, 3], [4]]"),
        ("[5, 6].all(i, v, i + 5 == v)", "true"),
        ("{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("['a', 'b'].transformList(i, v, i > 0, v + string(i))", "[b1]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v + 1)", "{b: 3}"),
        ("['a', 'b'].transformMapEntry(i, v, {v: i})", "{a: 0, b: 1}"),
        ("['a', 'a'].transformMapEntry(i, v, {v: i})", "!insert failed: key a already exists"),
        ("[3, 1, 2].sortBy(x, -x)", "[3, 2, 1]"),
        ("has({'a': 1}.a) && !has({'a': 1}.b)", "true"),
    ]);
}

#[test]
fn optionals_may_be_absent() {
    check(&[
        ("self.?text.orValue('-')", "abc"),
        ("self.inner.?n.hasValue()", "false"),
        ("self.inner.?n.orValue(5)", "5"),
        ("self.map[?'k'].value() + self.map[?'zz'].orValue('!')", "v!"),
        ("self.?inner.name.orValue('')", "in"),
        ("optional.none().or(optional.of(1)).value()", "1"),
        ("optional.none().value()", "!optional.none() dereference"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("self.?count.optMap(c, c * 2).value()", "6"),
        ("self.?inner.optFlatMap(i, i.?n).hasValue()", "false"),
        ("[?self.inner.?n, ?self.?count]", "[3]"),
        ("{?'a': self.inner.?n, 'b': 1}", "{b: 1}"),
        ("[optional.of(1), optional.none()].unwrapOpt()", "[1]"),
        ("self.list.first().value() + self.list.last().value()", "ac"),
        ("[1, 2][?5].orValue(0)", "0"),
    ]);
}

#[test]
fn values_convert_between_types() {
    check(&[
        ("int('12') + int(3.9) + int(2u)", "17"),
        ("int('x')", "!!type conversion error from 'string' to 'int'"),
        ("int(self.text)", "!type conversion error from 'string' to 'int'"),
        ("int(1e30)", "!!integer overflow"),
        ("uint(-1)", "!!unsigned integer overflow"),
        ("double('1.5') + double(1)", "2.5"),
        ("string(1) + string(1.5) + string(true) + string(2u)", "11.5true2"),
        (
            "string(duration('90m')) + string(timestamp('2024-01-02T03:04:05Z'))",
            "5400s2024-01-02T03:04:05Z",
        ),
        ("bool('true')", "true"),
        ("bytes('é') == b'\\xc3\\xa9'", "true"),
        ("int(timestamp('1970-01-01T00:00:10Z'))", "10"),
        ("timestamp(10) == timestamp('1970-01-01T00:00:10Z')", "true"),
        (
            "timestamp('2024-01-01T00:00:00Z') + duration('1h') - timestamp('2024-01-01T00:00:00Z')",
            "3600s",
        ),
        ("type(1) == int && type([1]) == list && type(type(1)) == type", "true"),
        ("dyn(1) == 1", "true"),
    ]);
}

#[test]
fn strings_have_functions() {
    check(&[
        ("'tacocat'.charAt(3) + 'a'.charAt(1)", "o"),
        ("'hello mellow'.indexOf('ello', 2)", "7"),
        ("'hello mellow'.lastIndexOf('ello', 6)", "1"),
        ("'hello mellow'.lastIndexOf('ello')", "7"),
        ("'ñandú'.indexOf('d')", "3"),
        ("'TacoCÆt'.lowerAscii() + 'Æx'.upperAscii()", "tacocÆtÆX"),
        ("'hello hello'.replace('he', 'we', 1)", "wello hello"),
        ("'ab'.replace('', '_')", "_a_b_"),
        ("'a,b,c'.split(',', 2)", "[a, b,c]"),
        ("'abc'.split('')", "[a, b, c]"),
        ("'a'.split(',', 0)", "[]"),
        ("'tacocat'.substring(4) + 'tacocat'.substring(0, 4)", "cattaco"),
        ("'abc'.substring(2, 1)", "!invalid substring range. start: 2, end: 1"),
        ("'abc'.substring(9)", "!index out of range: 9"),
        ("' a '.trim()", "a"),
        ("['a', 'b'].join('-') + ['c'].join()", "a-bc"),
        ("strings.quote('a\"b\\n')", "\"a\\\"b\\n\""),
        ("'abc'.matches('^a.c$') && !'abc'.matches('b$')", "true"),
        ("'a1b22'.find('[0-9]+') + 'x'.find('y')", "1"),
        ("'a1b22'.findAll('[0-9]+')", "[1, 22]"),
        ("'a1b22'.findAll('[0-9]', 2)", "[1, 2]"),
        (
            "'%s: %d%%, %.2f, %x, %b, %o'.format(['a', 5, 1.5, 255, true, 8])",
            "a: 5%, 1.50, ff, 1, 10",
        ),
        ("'%s'.format([[1, 'a', 1.5, null]])", "[1, \"a\", 1.500000, null]"),
        ("'%.1f %e'.format([1234.56, 1052.03])", "1,234.6 1.052030×10⁰³"),
    ]);
}

#[test]
fn lists_and_sets_have_functions() {
    check(&[
        ("self.ints.sum() + self.ints.max() * self.ints.min()", "9"),
        ("[1.5, 2.5].sum() == 4.0 && [duration('1h')].sum() == duration('60m')", "true"),
        ("self.ints.isSorted() || [1, 2].isSorted()", "true"),
        ("['b', 'a', 'b'].indexOf('b') + ['b', 'a', 'b'].lastIndexOf('b')", "2"),
        ("self.list.filter(x, x == 'z').max()", "!max called on empty list"),
        ("[1, 2, 3, 4].slice(1, 3)", "[2, 3]"),
        ("[1].slice(0, 5)", "!cannot slice(0, 5), list is length 1"),
        ("[[1], [2, 3]].flatten()", "[1, 2, 3]"),
        ("[[1, 2], [[3]].flatten()].flatten(5)", "[1, 2, 3]"),
        ("[3, 1, 2].sort() + lists.range(3)", "[1, 2, 3, 0, 1, 2]"),
        ("[1, 2, 2, 1].distinct().reverse()", "[2, 1]"),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1])", "true"),
        ("sets.intersects([1], [2])", "false"),
    ]);
}

#[test]
fn kubernetes_has_libraries_of_its_own() {
    check(&[
        ("quantity('1.5Gi').isGreaterThan(quantity('1Gi'))", "true"),
        ("quantity('50k').asInteger() + sign(quantity('-1'))", "49999"),
        ("quantity('1').add(2).sub(quantity('500m')).asApproximateFloat()", "2.5"),
        ("quantity('50Mi') == quantity('0.05Gi')", "false"),
        ("isQuantity('1x')", "false"),
        ("ip('10.0.0.1').family() + ip('::1').family()", "10"),
        ("ip('::ffff:1.2.3.4')", "!IPv4-mapped IPv6 address \"::ffff:1.2.3.4\" is not allowed"),
        ("isIP('1.2.3') || ip('127.0.0.1').isLoopback()", "true"),
        ("ip.isCanonical('2001:DB8::1')", "false"),
        ("string(ip('2001:DB8::1'))", "2001:db8::1"),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP('::1')",
            "true",
        ),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", "true"),
        ("cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))", "false"),
        ("string(cidr('10.1.2.3/8').masked())", "10.0.0.0/8"),
        ("cidr('10.1.2.3/8').prefixLength()", "8"),
        ("isCIDR('10.0.0.0/33') || isCIDR('::/0')", "true"),
        ("url('https://u:p@[::1]:8080/a%20b?x=1&x=2#f').getHostname()", "::1"),
        (
            "url('https://h:8080/a%20b?x=1').getPort() + url('https://h/a%20b').getEscapedPath()",
            "8080/a%20b",
        ),
        ("url('https://h/?x=1&x=2&y=').getQuery()", "{x: [1, 2], y: []}"),
        ("isURL('/path') && !isURL('relative') && !isURL('')", "true"),
        (
            "url('relative')",
            "!URL parse error during conversion from string: parse \"relative\": invalid URI for request",
        ),
        ("format.dns1123Label().validate('ok').hasValue()", "false"),
        ("format.named('dns1123Label').value().validate('A').value().size()", "1"),
        ("format.named('nothing').hasValue()", "false"),
        ("format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", "false"),
        ("semver('1.2.3').isLessThan(semver('1.10.0-rc.1'))", "true"),
        ("semver('1.0.0-a').compareTo(semver('1.0.0'))", "-1"),
        ("isSemver('v1.0') || isSemver('v1.0', true)", "true"),
        ("semver('v01.2', true).major() + semver('1.2.3').patch()", "4"),
    ]);
}
