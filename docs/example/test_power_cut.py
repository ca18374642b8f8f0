def test_a_power_cut_in_the_middle_of_an_update(board, product, power, image_factory, serve):
    old, new = image_factory.installed, image_factory("2.0")
    product.start_install(serve(new))
    power.cut_within(2, 20)  # seconds; drawn anew each time

    booted = power.up()
    image = old if booted.slot == "a" else new
    assert product.digest_of_root(image.slot.stat().st_size) == image.digest, "a complete, signed system runs"

    if booted.slot == "a":  # the power went before the new system was armed
        product.wait_idle()
        product.install(serve(new))
        board.reboot()
        board.wait_up(slot="b")
    assert product.wait_idle()["slots"]["b"]["state"] == "good", "the next try is committed"
