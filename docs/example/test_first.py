def test_the_device_is_well(board, product):
    assert board.check("systemctl", "is-system-running", "--wait").strip() == "running"
    assert product.status()["running"] == "a"
    assert product.doctor()["healthy"]
