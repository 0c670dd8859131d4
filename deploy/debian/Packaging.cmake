# Three Debian packages: `cpack -G DEB` in a build folder makes sinkforge (the client), sinkforge-coordinator and
# sinkforge-worker (with the trainer). deploy/debian/README.md is for those who install them.
include(GNUInstallDirs)
set(debian ${CMAKE_CURRENT_LIST_DIR})

install(TARGETS sinkforge RUNTIME DESTINATION bin COMPONENT client)
install(TARGETS sinkforge-coordinator RUNTIME DESTINATION bin COMPONENT coordinator)
install(TARGETS sinkforge-worker sinkforge-trainer RUNTIME DESTINATION bin COMPONENT worker)

# Completion scripts and manual pages come from the programs themselves, so that they cannot be out of date.
set(man ${PROJECT_BINARY_DIR}/man)
add_custom_command(OUTPUT ${man}/sinkforge.1
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${man}/client
  COMMAND sinkforge_man_pages ${man}/client
  COMMAND ${CMAKE_COMMAND} -E copy ${man}/client/sinkforge.1 ${man}/sinkforge.1
  DEPENDS sinkforge_man_pages VERBATIM)
set(generated ${man}/sinkforge.1)
install(DIRECTORY ${man}/client/ DESTINATION share/man/man1 COMPONENT client)
set(completion_bash share/bash-completion/completions sinkforge)
set(completion_zsh share/zsh/vendor-completions _sinkforge)
set(completion_fish share/fish/vendor_completions.d sinkforge.fish)
foreach(shell bash zsh fish)
  list(GET completion_${shell} 0 shell_folder)
  list(GET completion_${shell} 1 shell_file)
  set(script ${PROJECT_BINARY_DIR}/completion/${shell}/${shell_file})
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/completion/${shell})
  add_custom_command(OUTPUT ${script} COMMAND sinkforge completion ${shell} > ${script} DEPENDS sinkforge VERBATIM)
  install(FILES ${script} DESTINATION ${shell_folder} COMPONENT client)
  list(APPEND generated ${script})
endforeach()
find_program(HELP2MAN help2man REQUIRED)
set(program_coordinator sinkforge-coordinator 8 "keeps SinkForge's jobs and schedules them" coordinator)
set(program_worker sinkforge-worker 8 "runs SinkForge's trainers on one machine" worker)
set(program_trainer sinkforge-trainer 1 "trains one rank of a SinkForge job" worker)
foreach(name coordinator worker trainer)
  list(GET program_${name} 0 program)
  list(GET program_${name} 1 section)
  list(GET program_${name} 2 summary)
  list(GET program_${name} 3 component)
  add_custom_command(OUTPUT ${man}/${program}.${section}
    COMMAND ${HELP2MAN} --no-info --version-string ${PROJECT_VERSION} --section ${section} --name ${summary}
      --output ${man}/${program}.${section}
      $<TARGET_FILE:${program}>
    DEPENDS ${program} VERBATIM)
  install(FILES ${man}/${program}.${section} DESTINATION share/man/man${section} COMPONENT ${component})
  list(APPEND generated ${man}/${program}.${section})
endforeach()
add_custom_target(sinkforge_documents ALL DEPENDS ${generated})

# Each service's unit, options, and maintainer scripts.
foreach(folder coordinator worker)
  set(package sinkforge-${folder})
  install(FILES ${debian}/${package}.service DESTINATION lib/systemd/system COMPONENT ${folder})
  install(FILES ${debian}/${package}.default DESTINATION /etc/default RENAME ${package} COMPONENT ${folder})
  set(control ${PROJECT_BINARY_DIR}/debian/${folder})
  file(MAKE_DIRECTORY ${control})
  set(scripts ${control}/conffiles)
  foreach(script postinst prerm postrm)
    configure_file(${debian}/${script}.in ${control}/${script} @ONLY
      FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
    list(APPEND scripts ${control}/${script})
  endforeach()
  file(WRITE ${control}/conffiles "/etc/default/${package}\n")
  string(TOUPPER ${folder} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_CONTROL_EXTRA ${scripts})
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${package})
  set(CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS adduser)
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION science)
  install(FILES ${debian}/README.md DESTINATION share/doc/${package} COMPONENT ${folder})
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/README.md DESTINATION share/doc/sinkforge COMPONENT client)
# Debian's name for it, which systems that leave documents out keep all the same.
foreach(component client coordinator worker)
  string(REGEX REPLACE "-client$" "" package sinkforge-${component})
  install(FILES ${PROJECT_SOURCE_DIR}/deploy/THIRD_PARTY_NOTICES.md DESTINATION share/doc/${package}
    RENAME copyright COMPONENT ${component})
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/deploy/jobs DESTINATION share/doc/sinkforge/examples COMPONENT client)

# The components are named and chosen here, so that `cmake --install` of one is the same files.
set(CPACK_GENERATOR DEB)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL client coordinator worker)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_PACKAGE_NAME sinkforge)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "SinkForge <sinkforge@localhost>")
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME sinkforge)
set(CPACK_DEBIAN_CLIENT_PACKAGE_SUGGESTS "sinkforge-coordinator, sinkforge-worker")
set(CPACK_COMPONENT_CLIENT_DESCRIPTION "trains language models with balanced attention heads: client
The command sinkforge submits jobs to a SinkForge coordinator, follows them,
and exports their checkpoints.")
set(CPACK_COMPONENT_COORDINATOR_DESCRIPTION "trains language models with balanced attention heads: coordinator
The service that keeps jobs and their history, and schedules them onto
SinkForge workers.")
set(CPACK_COMPONENT_WORKER_DESCRIPTION "trains language models with balanced attention heads: worker
The service that runs SinkForge's trainers on one machine, and keeps their
checkpoints. The trainer also runs alone.")
# Everything that is packaged is part of the ordinary build; cpack need not build the tests first.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)
include(CPack)
